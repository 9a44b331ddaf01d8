"""What the server that coding processes are forked from imports, once: torch takes seconds."""

import warnings

warnings.simplefilter("ignore", FutureWarning)  # torch's, of its own plans

from ..codec import codec  # noqa: E402, F401
from ..model import library, network  # noqa: E402, F401
