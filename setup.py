"""What pyproject.toml cannot say: packages are found in src/, and conf/ is one of them."""

from setuptools import find_packages, setup

setup(packages=[*find_packages("src"), "quantexp.conf"])
