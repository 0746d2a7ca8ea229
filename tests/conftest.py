"Property tests are not timed: the machines that run them are shared"

from hypothesis import settings

settings.register_profile('study', deadline=None)
settings.load_profile('study')
