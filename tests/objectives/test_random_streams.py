"""Random streams: a change of any number would change every run."""

from beats_jax.objectives.random_streams import Stream


def test_streams_keep_their_numbers_and_never_meet_a_row():
    numbers = {stream.name: 2**32 - stream for stream in Stream}
    assert numbers == {
        "MODEL": 1,
        "MIXUP": 2,
        "MASK": 3,
        "RESTART": 4,
        "CROP": 5,
        "FIRST_VIEW": 6,
        "SECOND_VIEW": 7,
        "NEGATIVE": 8,
        "LABELED": 9,
        "BACKGROUND": 10,
    }
    assert min(Stream) >= 2**31
