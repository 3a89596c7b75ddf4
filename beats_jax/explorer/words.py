"""Every text of the page in every language: one table, so that none is forgotten (a test compares the keys)."""

from __future__ import annotations

NAMES = {"en": "English", "es": "Español"}

WORDS: dict[str, dict[str, str]] = {
    "opening": {"en": "opening the recordings ...", "es": "abriendo las grabaciones ..."},
    "view": {"en": "View", "es": "Vista"},
    "view_map": {"en": "Map", "es": "Mapa"},
    "notes": {"en": "Not everything is shown ({count})", "es": "No se muestra todo ({count})"},
    "note_sampled": {
        "en": "{count} of {detail} windows, drawn at random; --max-samples shows more",
        "es": "{count} de {detail} ventanas, elegidas al azar; --max-samples muestra más",
    },
    "note_sampled_recordings": {
        "en": "{count} of {detail} recordings, drawn at random; --max-samples shows more",
        "es": "{count} de {detail} grabaciones, elegidas al azar; --max-samples muestra más",
    },
    "note_unusable": {
        "en": "{count} windows have vectors that are not finite, for example of {detail}",
        "es": "{count} ventanas tienen vectores que no son finitos, por ejemplo de {detail}",
    },
    "note_unreadable": {
        "en": "{count} recordings cannot be read to their end, for example {detail}",
        "es": "{count} grabaciones no se pueden leer hasta el final, por ejemplo {detail}",
    },
    "note_missing": {
        "en": "{count} recordings are missing, for example {detail}; --data says where they are now",
        "es": "faltan {count} grabaciones, por ejemplo {detail}; --data indica dónde están ahora",
    },
    "map_settings": {"en": "Map", "es": "Mapa"},
    "method": {"en": "Method", "es": "Método"},
    "method_pca": {"en": "PCA", "es": "PCA"},
    "method_tsne": {"en": "t-SNE", "es": "t-SNE"},
    "method_umap": {"en": "UMAP", "es": "UMAP"},
    "dimensions": {"en": "Dimensions", "es": "Dimensiones"},
    "perplexity": {"en": "Perplexity", "es": "Perplejidad"},
    "n_neighbors": {"en": "Neighbours", "es": "Vecinos"},
    "min_dist": {"en": "Least distance", "es": "Distancia mínima"},
    "point_size": {"en": "Size of points", "es": "Tamaño de los puntos"},
    "second_map": {"en": "A second map beside it", "es": "Un segundo mapa al lado"},
    "computing_map": {
        "en": "computing the map, once; {points} points ...",
        "es": "calculando el mapa, una vez; {points} puntos ...",
    },
    "needs_umap": {
        "en": "UMAP is not installed: pip install 'beats-jax[discover]'",
        "es": "UMAP no está instalado: pip install 'beats-jax[discover]'",
    },
    "colour": {"en": "Colour", "es": "Color"},
    "colour_none": {"en": "one colour", "es": "un color"},
    "colour_label": {"en": "label", "es": "etiqueta"},
    "colour_site": {"en": "site", "es": "sitio"},
    "colour_hour": {"en": "hour of the day", "es": "hora del día"},
    "colour_month": {"en": "month", "es": "mes"},
    "colour_date": {"en": "date", "es": "fecha"},
    "colour_recording": {"en": "recording", "es": "grabación"},
    "unknown": {"en": "(unknown)", "es": "(desconocido)"},
    "others": {"en": "(others)", "es": "(otros)"},
    "how_to_select": {
        "en": "Click a point, or draw around several with the lasso. The keyboard way is the search below.",
        "es": "Pulse un punto o rodee varios con el lazo. Con el teclado, use la búsqueda de abajo.",
    },
    "three_dimensions": {
        "en": "Three dimensions are to turn and look at; select in two dimensions, in the table or by the search.",
        "es": "En tres dimensiones se gira y se mira; seleccione en dos dimensiones, en la tabla o con la búsqueda.",
    },
    "search": {"en": "Search in file names and labels", "es": "Buscar en nombres de archivo y etiquetas"},
    "search_found": {"en": "{count} windows found", "es": "{count} ventanas encontradas"},
    "nothing_selected": {"en": "Nothing is selected yet.", "es": "Todavía no hay nada seleccionado."},
    "selection": {"en": "Selection: {count} windows", "es": "Selección: {count} ventanas"},
    "first_shown": {"en": "The table shows the first {count}.", "es": "La tabla muestra las primeras {count}."},
    "clear": {"en": "Clear the selection", "es": "Borrar la selección"},
    "file": {"en": "file", "es": "archivo"},
    "start": {"en": "start (s)", "es": "inicio (s)"},
    "end": {"en": "end (s)", "es": "fin (s)"},
    "label": {"en": "label", "es": "etiqueta"},
    "recorded_at": {"en": "recorded at", "es": "grabado"},
    "site": {"en": "site", "es": "sitio"},
    "similarity": {"en": "similarity", "es": "semejanza"},
    "metadata": {"en": "Recorder and file", "es": "Grabadora y archivo"},
    "neighbours": {"en": "Nearest neighbours", "es": "Vecinos más cercanos"},
    "context": {"en": "Seconds before and after", "es": "Segundos antes y después"},
    "speed": {"en": "Speed", "es": "Velocidad"},
    "high_khz": {"en": "Up to kHz", "es": "Hasta kHz"},
    "seconds": {"en": "s", "es": "s"},
    "rate": {"en": "{rate} Hz, {channels}", "es": "{rate} Hz, {channels}"},
    "spectrogram_of": {"en": "Spectrogram of {name}", "es": "Espectrograma de {name}"},
    "cut_clip": {
        "en": "Only the first {seconds} s are shown and played.",
        "es": "Solo se muestran y suenan los primeros {seconds} s.",
    },
}


class Words:
    """Texts in one language."""

    def __init__(self, language: str) -> None:
        self.language = language

    def __call__(self, key: str, **values: object) -> str:
        """The text of a key, with its values filled in."""
        return WORDS[key][self.language].format(**values)
