"""Every text of the page in every language: one table, so that none is forgotten (a test compares the keys)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

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
        "en": "Windows with vectors that are not finite: {count}, for example of {detail}",
        "es": "Ventanas con vectores que no son finitos: {count}, por ejemplo de {detail}",
    },
    "note_unreadable": {
        "en": "Recordings that cannot be read to their end: {count}, for example {detail}",
        "es": "Grabaciones que no se pueden leer hasta el final: {count}, por ejemplo {detail}",
    },
    "note_missing": {
        "en": "Missing recordings: {count}, for example {detail}; --data says where they are now",
        "es": "Grabaciones que faltan: {count}, por ejemplo {detail}; --data indica dónde están ahora",
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
        "en": "computing the map, once; {points} points. t-SNE of 20,000 points takes minutes ...",
        "es": "calculando el mapa, una vez; {points} puntos. t-SNE de 20 000 puntos tarda minutos ...",
    },
    "needs_umap": {
        "en": "UMAP is not installed: pip install 'beats-jax[discover]'",
        "es": "UMAP no está instalado: pip install 'beats-jax[discover]'",
    },
    "second_map_settings": {"en": "Second map", "es": "Segundo mapa"},
    "perplexity_used": {
        "en": "{used} is used: {points} points allow no more",
        "es": "se usa {used}: {points} puntos no permiten más",
    },
    "colour": {"en": "Colour", "es": "Color"},
    "colour_none": {"en": "one colour", "es": "un color"},
    "colour_label": {"en": "label", "es": "etiqueta"},
    "colour_prediction": {"en": "prediction", "es": "predicción"},
    "colour_cluster": {"en": "cluster", "es": "grupo"},
    "cluster": {"en": "cluster {number}", "es": "grupo {number}"},
    "colour_site": {"en": "site", "es": "sitio"},
    "colour_hour": {"en": "hour of the day", "es": "hora del día"},
    "colour_month": {"en": "month", "es": "mes"},
    "colour_date": {"en": "date", "es": "fecha"},
    "colour_recording": {"en": "recording", "es": "grabación"},
    "unknown": {"en": "(unknown)", "es": "(desconocido)"},
    "others": {"en": "(others)", "es": "(otros)"},
    "how_to_select": {
        "en": "Click a point, or draw around several with the lasso. By keyboard, use the search.",
        "es": "Pulse un punto o rodee varios con el lazo. Con el teclado, use la búsqueda.",
    },
    "three_dimensions": {
        "en": "Three dimensions are to turn and look at; select in two dimensions, in the table or by the search.",
        "es": "En tres dimensiones se gira y se mira; seleccione en dos dimensiones, en la tabla o con la búsqueda.",
    },
    "search": {"en": "Search in file names and labels", "es": "Buscar en nombres de archivo y etiquetas"},
    "nothing_selected": {"en": "Nothing is selected yet.", "es": "Todavía no hay nada seleccionado."},
    "selection": {"en": "Selected windows: {count}", "es": "Ventanas seleccionadas: {count}"},
    "first_shown": {"en": "The table shows the first {count}.", "es": "La tabla muestra las primeras {count}."},
    "label_selection": {"en": "Label the selected windows ({count})", "es": "Etiquetar las ventanas seleccionadas ({count})"},
    "choose_or_write": {"en": "choose one or write a new one", "es": "elija una o escriba una nueva"},
    "reviewer": {"en": "Your name", "es": "Su nombre"},
    "save_labels": {"en": "Save", "es": "Guardar"},
    "remove_labels": {"en": "Remove my labels", "es": "Quitar mis etiquetas"},
    "labels_saved": {
        "en": "Labels in {file}: {count}. To train on them:",
        "es": "Etiquetas en {file}: {count}. Para entrenar con ellas:",
    },
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
    "spectrogram_of": {"en": "Spectrogram of {name}", "es": "Espectrograma de {name}"},
    "cut_clip": {
        "en": "Only the first {seconds} s are shown and played.",
        "es": "Solo se muestran y suenan los primeros {seconds} s.",
    },
    "view_clusters": {"en": "Clusters", "es": "Grupos"},
    "view_patterns": {"en": "Time and place", "es": "Tiempo y lugar"},
    "view_variance": {"en": "Variance", "es": "Varianza"},
    "view_upload": {"en": "Place a file", "es": "Situar un archivo"},
    "view_runs": {"en": "Training", "es": "Entrenamiento"},
    "computing_clusters": {"en": "looking for clusters ...", "es": "buscando grupos ..."},
    "no_clusters": {
        "en": "No cluster is dense enough; take a smaller one.",
        "es": "Ningún grupo es bastante denso; elija uno más pequeño.",
    },
    "show_cluster": {"en": "Show", "es": "Mostrar"},
    "select_cluster": {"en": "Select its windows ({count})", "es": "Seleccionar sus ventanas ({count})"},
    "number_of_clusters": {"en": "Clusters", "es": "Grupos"},
    "smallest_cluster": {"en": "Smallest cluster (windows)", "es": "Grupo más pequeño (ventanas)"},
    "clusters_found": {"en": "Clusters", "es": "Grupos"},
    "silhouette": {"en": "Silhouette", "es": "Silueta"},
    "davies_bouldin": {"en": "Davies-Bouldin", "es": "Davies-Bouldin"},
    "calinski_harabasz": {"en": "Calinski-Harabasz", "es": "Calinski-Harabasz"},
    "noise": {"en": "In no cluster", "es": "Sin grupo"},
    "silhouette_help": {"en": "-1 to 1; larger is better", "es": "de -1 a 1; mayor es mejor"},
    "davies_bouldin_help": {"en": "from 0; smaller is better", "es": "desde 0; menor es mejor"},
    "calinski_harabasz_help": {
        "en": "larger is better; compare only on the same windows",
        "es": "mayor es mejor; compare solo con las mismas ventanas",
    },
    "noise_help": {"en": "windows in sparse places, by HDBSCAN", "es": "ventanas en zonas poco densas, según HDBSCAN"},
    "cluster_space": {
        "en": "Sought in the first {count} principal components.",
        "es": "Buscados en los primeros {count} componentes principales.",
    },
    "clusters_of_sample": {
        "en": "Made from {count} windows; the others joined the nearest of these.",
        "es": "Hechos con {count} ventanas; las demás se unieron a la más cercana de ellas.",
    },
    "silhouette_of_sample": {"en": "The silhouette compares {count} windows.", "es": "La silueta compara {count} ventanas."},
    "windows": {"en": "windows", "es": "ventanas"},
    "share": {"en": "share", "es": "proporción"},
    "middle": {"en": "in its middle", "es": "en su centro"},
    "usual_label": {"en": "most frequent label", "es": "etiqueta más frecuente"},
    "share_of_label": {"en": "its share", "es": "su proporción"},
    "show": {"en": "Show", "es": "Mostrar"},
    "variance_each": {"en": "each", "es": "cada uno"},
    "variance_together": {"en": "together", "es": "juntos"},
    "component": {"en": "principal component", "es": "componente principal"},
    "variance": {"en": "explained variance", "es": "varianza explicada"},
    "more_than": {"en": "more than {count}", "es": "más de {count}"},
    "variance_reached": {
        "en": "{count} components hold {share} of the variance of {width} dimensions.",
        "es": "{count} componentes contienen el {share} de la varianza de {width} dimensiones.",
    },
    "windows_of": {"en": "Windows of", "es": "Ventanas de"},
    "group_all": {"en": "all recordings", "es": "todas las grabaciones"},
    "group_selection": {"en": "the selection", "es": "la selección"},
    "no_clocks": {
        "en": "Windows without a known time: {count}; neither file nor name has a clock.",
        "es": "Ventanas sin hora conocida: {count}; ni el archivo ni el nombre llevan reloj.",
    },
    "by_hour": {"en": "Hour and day", "es": "Hora y día"},
    "by_month": {"en": "Month", "es": "Mes"},
    "by_site": {"en": "Site", "es": "Sitio"},
    "no_sites": {"en": "No site is known.", "es": "No se conoce ningún sitio."},
    "first_sites": {"en": "The first {count} of {all} sites.", "es": "Los primeros {count} de {all} sitios."},
    "share_of_windows": {"en": "share of windows", "es": "proporción de ventanas"},
    "hour": {"en": "hour", "es": "hora"},
    "day": {"en": "day", "es": "día"},
    "wall_time": {
        "en": "Times are those of the recorder's clock. Hours without recordings are empty.",
        "es": "Las horas son las del reloj de la grabadora. Las horas sin grabaciones quedan vacías.",
    },
    "days_a_column": {"en": "A column is {count} days.", "es": "Una columna son {count} días."},
    "upload": {"en": "An audio file, to see where it falls", "es": "Un archivo de audio, para ver dónde cae"},
    "upload_help": {
        "en": "It is read once, by the model of the map, and not kept.",
        "es": "Se lee una vez, con el modelo del mapa, y no se guarda.",
    },
    "embedding_upload": {"en": "reading the file ...", "es": "leyendo el archivo ..."},
    "upload_cut": {"en": "Only the first {seconds} s are placed.", "es": "Solo se sitúan los primeros {seconds} s."},
    "window": {"en": "Window", "es": "Ventana"},
    "uploaded": {"en": "this file", "es": "este archivo"},
    "shown_on_map": {"en": "On the map view: {name}", "es": "En la vista del mapa: {name}"},
    "placed_by_formula": {"en": "Placed exactly: PCA is a formula.", "es": "Situado con exactitud: PCA es una fórmula."},
    "placed_by_neighbours": {
        "en": "Placed at the mean of its {count} nearest neighbours: this map has no formula.",
        "es": "Situado en la media de sus {count} vecinos más cercanos: este mapa no tiene fórmula.",
    },
    "curves_of": {"en": "Learning curves of {run}", "es": "Curvas de aprendizaje de {run}"},
    "no_run": {
        "en": "--run DIR shows the learning curves of a run; --training lets this page start one.",
        "es": "--run DIR muestra las curvas de un entrenamiento; --training permite iniciar uno desde esta página.",
    },
    "no_curves": {"en": "No numbers yet.", "es": "Todavía no hay números."},
    "metric": {"en": "Metric", "es": "Medida"},
    "step": {"en": "step", "es": "paso"},
    "training": {"en": "Train", "es": "Entrenar"},
    "recipe": {"en": "Recipe", "es": "Receta"},
    "run_name": {"en": "Name of the run", "es": "Nombre del entrenamiento"},
    "train_on": {"en": "Train on", "es": "Entrenar con"},
    "given_labels": {"en": "the labels given here", "es": "las etiquetas dadas aquí"},
    "class_folders": {"en": "class folders of --data", "es": "las carpetas de clases de --data"},
    "most_steps": {"en": "Steps at most (0 = the recipe's)", "es": "Pasos como máximo (0 = los de la receta)"},
    "start_training": {"en": "Start or resume", "es": "Iniciar o continuar"},
    "nothing_to_train_on": {"en": "Label some windows first.", "es": "Etiquete antes algunas ventanas."},
    "already_training": {
        "en": "a training runs already; stop it first",
        "es": "ya hay un entrenamiento en marcha; deténgalo antes",
    },
    "training_runs": {"en": "It runs, also when this page is closed.", "es": "Está en marcha, también si se cierra esta página."},
    "training_ended": {
        "en": "It has ended with status {status} (0 = well).",
        "es": "Ha terminado con estado {status} (0 = bien).",
    },
    "stop_training": {"en": "Save and stop", "es": "Guardar y detener"},
    "mouse": {"en": "The mouse", "es": "El ratón"},
    "mouse_pan": {"en": "clicks a point, moves the map", "es": "pulsa un punto, mueve el mapa"},
    "mouse_lasso": {"en": "draws a lasso", "es": "dibuja un lazo"},
    "too_few": {"en": "Too few windows for clusters.", "es": "Demasiado pocas ventanas para formar grupos."},
    "no_variance": {"en": "The windows do not differ.", "es": "Las ventanas no difieren."},
}


class Words:
    """Texts in one language; another page has its own `texts`."""

    texts: ClassVar[Mapping[str, Mapping[str, str]]] = WORDS

    def __init__(self, language: str) -> None:
        self.language = language

    def __call__(self, key: str, **values: object) -> str:
        """The text of a key, with its values filled in."""
        return self.texts[key][self.language].format(**values)
