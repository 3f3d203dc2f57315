"""Configuration of the documentation; build it with ``make docs``."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import jaxnorm

project = "jaxnorm"
author = "The jaxnorm authors"
copyright = author
release = version = jaxnorm.__version__

extensions = [
    "myst_nb",
    "bundled_mathjax",
    "example_pages",
    "pictures.site",
    "guides",
    "public_names",
    "signatures",
    "source_pages",
    "zoo_items",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "skeletons"]
myst_enable_extensions = ["amsmath", "colon_fence", "dollarmath"]
myst_heading_anchors = 3

# Guides run when they are read, each in a process and a folder of its own. An exception or a warning fails the build.
nb_execution_mode = "auto"
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_output_stderr = "error"
nb_merge_streams = True
nb_ipywidgets_js = {}  # the scripts that it knows come from another host

autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
# Fields whose default is a function or a type would be listed twice: as an attribute of the spec and by that default.
# The function of a spec has an entry of its own.
autodoc_default_options = {
    "exclude-members": "kernel_init, recurrent_init, gate_fn, activation_fn, param_dtype, function, params_type"
}
napoleon_use_ivar = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False

# What is copied from an example is its input.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_selector = "div:not(.output) > div.highlight > pre"

html_theme = "sphinx_book_theme"
html_title = "jaxnorm"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {
    "show_navbar_depth": 1,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navbar_persistent": [],  # the sidebar has the search box
}
