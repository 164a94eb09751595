"""The film that a video was cut from, by the names of UCF101 and HMDB51. Videos of one film look alike."""

import re

# The same class and group: in UCF101, g01 of one class is another film than g01 of the next.
UCF101 = re.compile(r"(v_.+_g\d+)_c\d+$")
# <film>_<class>_<visible part>_<camera>_<people>_<view>_<quality>_<number>; films have clips in several classes.
_CLASSES = (
    "brush_hair cartwheel catch chew clap climb climb_stairs dive draw_sword dribble drink eat fall_floor fencing "
    "flic_flac golf handstand hit hug jump kick kick_ball kiss laugh pick pour pullup punch push pushup ride_bike "
    "ride_horse run shake_hands shoot_ball shoot_bow shoot_gun sit situp smile smoke somersault stand swing_baseball "
    "sword sword_exercise talk throw turn walk wave"
)
HMDB51 = re.compile(rf"(.+?)_(?:{_CLASSES.replace(' ', '|')})_[fuhl]_[cn]m_np\d+_(?:fr|ba|le|ri)_(?:bad|med|goo)_\d+$")


def film_of(key: str) -> str | None:
    """Return the film of a video; None where its name does not say it."""
    found = UCF101.match(key) or HMDB51.match(key)
    return found.group(1) if found else None
