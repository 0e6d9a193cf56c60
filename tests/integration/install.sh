#!/usr/bin/env bash
# What tests/integration needs besides the development environment: Slurm with its accounting, PostgreSQL with its
# driver, libfaketime, Ray (400 MB), and llama-server, llama-imatrix and llama-perplexity, which are built here because
# tests beside their build would time out.
# For Debian and Ubuntu; nothing is installed that is there. The tests start daemons of their own.
set -euo pipefail
python=${1:?the Python to install Ray and psycopg for}
here=$(dirname "$0")

install() {
    local sudo
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends "$@" > /dev/null
}

for program in sbatch munged slurmdbd slurmctld slurmd mariadbd mariadb-install-db; do
    if ! PATH=$PATH:/usr/sbin command -v "$program" > /dev/null; then
        install slurm-wlm slurmdbd munge mariadb-server
        break
    fi
done
compgen -G "/usr/lib/postgresql/*/bin/initdb" > /dev/null || install postgresql
command -v faketime > /dev/null || install faketime

# Nothing that requirements.lock pins changes. The launcher asks for an older cloudpickle, which its jobs do not use.
"$python" -m pip install --quiet --disable-pip-version-check --constraint "$here/../../requirements.lock" "ray[default]<3" \
    "psycopg[binary]>=3.2"
"$python" -m pip install --quiet --disable-pip-version-check --no-deps "hydra-ray-launcher>=1.2.2"
PYTHONPATH=$here/../../benchmarks "$python" -c \
    'import common; [common.llama_tool(f"llama-{each}") for each in ("server", "imatrix", "perplexity")]'
