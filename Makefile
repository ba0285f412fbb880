# make setup    the environment .venv (TORCH=cuda for a GPU, PYTHON=... for another interpreter)
# make demo     play the sample bag through the live graph
# make test     the whole test suite, in two processes
# ARGS="..." is handed on to the demo or to pytest.

TORCH ?=
PYTHON ?=
ARGS ?=

.PHONY: setup demo test clean

setup:
	@python=$$(PYTHON="$(PYTHON)" sh tools/find_python.sh) && \
	"$$python" tools/setup_environment.py $(if $(TORCH),--torch $(TORCH))

demo: setup
	@.venv/bin/egopose demo $(ARGS)

test: setup
	@# One thread each, or those of both wait for one another: half as fast on two cores.
	@. .venv/bin/ros_environment.sh && OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

clean:
	rm -rf .venv build install log *.egg-info
