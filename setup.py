"What pyproject.toml calls dynamic, from settings.ini: edit there, not here."

from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

ini = ConfigParser(delimiters=['='], interpolation=None)
ini.read(Path(__file__).with_name('settings.ini'), encoding='utf-8')
cfg = ini['DEFAULT']

setup(
    version=cfg['version'],
    description=cfg['description'],
    install_requires=cfg['requirements'].split(),
    extras_require={x: cfg[f'{x}_requirements'].split() for x in ('cpu', 'gpu', 'dev', 'docs')},
    entry_points={
        'console_scripts': cfg['console_scripts'].split(),
        'nbdev': ['ocf_study = ocf_study._modidx:d'],
    },
)
