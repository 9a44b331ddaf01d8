"""What the server that coding processes are forked from imports, once: torch takes seconds."""

import warnings

warnings.simplefilter("ignore", FutureWarning)  # torch's, of its own plans

from .. import codec, library, model  # noqa: E402, F401
