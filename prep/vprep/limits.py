"""The ranges of what a set may hold. They are wide; what lies outside is an error or an attack."""

MOST_SIDE = 16384  # pixels of a frame's height or width
MOST_PIXELS = 1 << 26  # of a frame: 200 MB when it is decoded
MOST_FPS = 1000.0
MOST_LABEL = 999_999  # a classifier has as many outputs as the highest label
MOST_JSON = 16 << 20  # bytes of the json of one video; 90,000 frames take 2 MB
MOST_VIDEO = (1 << 32) - 1  # bytes of a video, so that frame offsets fit 32 bits
MOST_KEY = 1000  # characters of a key
MOST_DATASET = 256 << 20  # bytes of a dataset.json; a million shards take 130 MB
MOST_NAME = 255  # bytes of a file name
