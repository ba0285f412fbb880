# Sourced by .venv/bin/egopose and by make: ROS 2 from this environment's wheels, and nothing else.
# A sourced ROS distribution would put its own Python packages before ours.
venv=@VENV@ root=@ROOT@
unset PYTHONPATH
export AMENT_PREFIX_PATH="$venv"

# The wheels find their libraries by starting Python twice, unless both of these are set.
libraries="$venv/lib"
for folder in "$venv"/lib/python3*/site-packages/ros_*.libs; do
    libraries="$libraries:$folder"
done
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1

# Large images need this shared-memory segment on both sides; discovery stays on this machine unless asked otherwise.
export FASTDDS_DEFAULT_PROFILES_FILE="${FASTDDS_DEFAULT_PROFILES_FILE:-$root/config/fastdds_shm.xml}"
export ROS_AUTOMATIC_DISCOVERY_RANGE="${ROS_AUTOMATIC_DISCOVERY_RANGE:-LOCALHOST}"
unset venv root libraries folder
