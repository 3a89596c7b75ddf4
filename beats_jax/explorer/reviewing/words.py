"""The texts of the review page."""

from __future__ import annotations

from beats_jax.explorer.words import Words

WORDS: dict[str, dict[str, str]] = {
    "opening": {"en": "opening the detections ...", "es": "abriendo las detecciones ..."},
    "label": {"en": "Class", "es": "Clase"},
    "order": {"en": "Order", "es": "Orden"},
    "strongest": {"en": "strongest first", "es": "las más fuertes primero"},
    "stratified": {"en": "stratified by score", "es": "estratificado por puntuación"},
    "uncertain": {"en": "uncertain first", "es": "las dudosas primero"},
    "diverse": {"en": "diverse", "es": "diversas"},
    "random": {"en": "random", "es": "al azar"},
    "context": {"en": "Seconds before and after", "es": "Segundos antes y después"},
    "high_khz": {"en": "Up to kHz (0 = all)", "es": "Hasta kHz (0 = todo)"},
    "clips_a_page": {"en": "Clips on a page", "es": "Fragmentos por página"},
    "play": {"en": "Play the marked clip at once", "es": "Reproducir el fragmento marcado"},
    "reviewer": {"en": "Reviewer", "es": "Revisor"},
    "yes": {"en": "Yes", "es": "Sí"},
    "no": {"en": "No", "es": "No"},
    "unsure": {"en": "Unsure", "es": "Dudoso"},
    "undo": {"en": "Undo", "es": "Deshacer"},
    "previous_page": {"en": "Page before", "es": "Página anterior"},
    "next_page": {"en": "Page after", "es": "Página siguiente"},
    "other": {"en": "No, clip {number} is", "es": "No, el fragmento {number} es"},
    "other_hint": {"en": "choose or type a label", "es": "elija o escriba una etiqueta"},
    "said_yes": {"en": "yes", "es": "sí"},
    "said_no": {"en": "no", "es": "no"},
    "said_unsure": {"en": "unsure", "es": "dudoso"},
    "said_other": {"en": "no, {label}", "es": "no, {label}"},
    "said_nothing": {"en": "open", "es": "pendiente"},
    "page": {"en": "Page {page} of {pages}", "es": "Página {page} de {pages}"},
    "progress": {
        "en": "{reviewed} of {clips} reviewed: {yes} yes, {no} no, {unsure} unsure",
        "es": "{reviewed} de {clips} revisados: {yes} sí, {no} no, {unsure} dudosos",
    },
    "right": {
        "en": "right so far: {share:.0%}, at 95 % {low:.0%} to {high:.0%}",
        "es": "correctas hasta ahora: {share:.0%}, al 95 % {low:.0%} a {high:.0%}",
    },
    "all_done": {"en": "All clips of this class are reviewed.", "es": "Todos los fragmentos de esta clase están revisados."},
    "undone": {"en": "Taken back: {name}", "es": "Retirado: {name}"},
    "nothing_to_undo": {
        "en": "There is no verdict of {reviewer} to take back.",
        "es": "No hay ningún veredicto de {reviewer} que retirar.",
    },
    "repaired": {"en": "A last line that was cut off was removed: {line}", "es": "Se quitó una última línea cortada: {line}"},
    "left_out": {"en": "Left out: {text}", "es": "Omitidos: {text}"},
    "counts": {"en": "Counts of every class", "es": "Recuentos de cada clase"},
    "clips": {"en": "clips", "es": "fragmentos"},
    "spectrogram_of": {"en": "Spectrogram of {name}", "es": "Espectrograma de {name}"},
    "sound_of": {"en": "Sound of {name}", "es": "Sonido de {name}"},
    "keys": {
        "en": "Keys: Y yes, N no, U unsure, Z undo, Space plays, ← → move, PageUp and PageDown turn the page.",
        "es": "Teclas: Y sí, N no, U dudoso, Z deshacer, Espacio reproduce, ← → mover, RePág y AvPág cambian de página.",
    },
}


class ReviewWords(Words):
    """These texts in one language."""

    texts = WORDS
