"Settings of a whole study at the smallest size, for what is asked of every stage"

SETTINGS = {
    'subjects': 24,
    'pixel_mm': 1.2,
    'prevalence': 0.2,
    'resamples': 40,
    '10_preprocessing.size': 64,
    '10_preprocessing.copies': 1,
    '10_preprocessing.inversion_films': 6,
    '20_search.steps': 2,
    '20_search.shrink': 1,
    '30_training.steps': 3,
    '30_training.shrink': 1,
    'compared': 'keras',
    'backend': 'keras',
    'compared_bodies': 8,
    '40_prediction.seconds': 0.01,
    '70_beyond.twins': 2,
}
