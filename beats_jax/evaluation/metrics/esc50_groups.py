"""Two ways to put the classes of ESC-50 into groups: class -> group, for `evaluation.class_groups`."""

from __future__ import annotations

from collections.abc import Mapping


def _by_class(groups: Mapping[str, str]) -> dict[str, str]:
    """class -> group from group -> classes separated by spaces."""
    return {name: group for group, names in groups.items() for name in names.split()}


# The five major categories of its table (K. J. Piczak, ESC: Dataset for Environmental Sound Classification, 2015; targets 0-9,
# 10-19, 20-29, 30-39, 40-49 of meta/esc50.csv).
SUPER_CATEGORIES = _by_class(
    {
        "animals": "dog rooster pig cow frog cat hen insects sheep crow",
        "natural soundscapes and water": "rain sea_waves crackling_fire crickets chirping_birds water_drops wind pouring_water "
        "toilet_flush thunderstorm",
        "human, non-speech": "crying_baby sneezing clapping breathing coughing footsteps laughing brushing_teeth snoring "
        "drinking_sipping",
        "interior, domestic": "door_wood_knock mouse_click keyboard_typing door_wood_creaks can_opening washing_machine "
        "vacuum_cleaner clock_alarm clock_tick glass_breaking",
        "exterior, urban": "helicopter chainsaw siren car_horn engine train church_bells airplane fireworks hand_saw",
    }
)

# Birds, water, wind and mammals. Ours: ESC-50 has no such column. Poultry are birds; water is whatever flows, drips or rains,
# a flushed toilet too, but not a thunderstorm; mammals are animals only. All other classes are in no group.
NATURE_GROUPS = _by_class(
    {
        "birds": "rooster hen crow chirping_birds",
        "water": "rain sea_waves water_drops pouring_water toilet_flush",
        "wind": "wind",
        "mammals": "dog pig cow cat sheep",
    }
)
