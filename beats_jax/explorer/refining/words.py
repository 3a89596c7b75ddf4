"""The texts of the page on which clusters are refined."""

from __future__ import annotations

from beats_jax.explorer.words import Words

WORDS: dict[str, dict[str, str]] = {
    "opening": {"en": "opening the clusters ...", "es": "abriendo los grupos ..."},
    "cluster": {"en": "Cluster", "es": "Grupo"},
    "open": {"en": "open", "es": "pendiente"},
    "named": {"en": "named", "es": "con nombre"},
    "dropped": {"en": "dropped", "es": "descartado"},
    "choice": {"en": "{name} · {count} sounds · {status}", "es": "{name} · {count} sonidos · {status}"},
    "progress": {
        "en": "{named} of {clusters} clusters named, {dropped} dropped; {sounds} of {regions} sounds have a name",
        "es": "{named} de {clusters} grupos con nombre, {dropped} descartados; {sounds} de {regions} sonidos tienen nombre",
    },
    "name": {"en": "Name of this kind of sound", "es": "Nombre de este tipo de sonido"},
    "keep": {"en": "Name it", "es": "Dar nombre"},
    "drop": {"en": "Drop", "es": "Descartar"},
    "undo": {"en": "Undo", "es": "Deshacer"},
    "previous": {"en": "Cluster before", "es": "Grupo anterior"},
    "next": {"en": "Cluster after", "es": "Grupo siguiente"},
    "merge": {"en": "Merge into", "es": "Unir con"},
    "choose": {"en": "choose a cluster", "es": "elija un grupo"},
    "parts": {"en": "Parts", "es": "Partes"},
    "split": {"en": "Split", "es": "Dividir"},
    "select": {"en": "select", "es": "elegir"},
    "move": {"en": "Move the {count} selected to", "es": "Mover los {count} elegidos a"},
    "nowhere": {"en": "no cluster", "es": "ningún grupo"},
    "more": {"en": "Sounds {first} to {last} of {count}", "es": "Sonidos {first} a {last} de {count}"},
    "page_before": {"en": "Page before", "es": "Página anterior"},
    "page_after": {"en": "Page after", "es": "Página siguiente"},
    "context": {"en": "Seconds before and after", "es": "Segundos antes y después"},
    "high_khz": {"en": "Up to kHz (0 = as the regions)", "es": "Hasta kHz (0 = según las regiones)"},
    "sounds_a_page": {"en": "Sounds on a page", "es": "Sonidos por página"},
    "reviewer": {"en": "Reviewer", "es": "Revisor"},
    "all_clusters": {"en": "All clusters", "es": "Todos los grupos"},
    "sounds": {"en": "sounds", "es": "sonidos"},
    "status": {"en": "status", "es": "estado"},
    "tables": {"en": "Write tables for Raven and Audacity", "es": "Escribir tablas para Raven y Audacity"},
    "written": {"en": "{count} tables in {folder}", "es": "{count} tablas en {folder}"},
    "undone": {"en": "Taken back: {action} {cluster}", "es": "Retirado: {action} {cluster}"},
    "nothing_to_undo": {
        "en": "There is no decision of {reviewer} to take back.",
        "es": "No hay ninguna decisión de {reviewer} que retirar.",
    },
    "nothing_left": {"en": "There is no cluster.", "es": "No hay ningún grupo."},
    "repaired": {"en": "A last line that was cut off was removed: {line}", "es": "Se quitó una última línea cortada: {line}"},
    "spectrogram_of": {"en": "Spectrogram of {name}", "es": "Espectrograma de {name}"},
    "sound_of": {"en": "Sound of {name}", "es": "Sonido de {name}"},
    "train": {"en": "Train on the named clusters", "es": "Entrenar con los grupos con nombre"},
    "keys": {
        "en": "Keys: type a name and press Enter, D drop, Z undo, ← → another cluster, PageUp and PageDown another page.",
        "es": "Teclas: un nombre e Intro, D descartar, Z deshacer, ← → otro grupo, RePág y AvPág otra página.",
    },
}


class RefineWords(Words):
    """These texts in one language."""

    texts = WORDS
