# TensorFlow has no type hints of its own, and the ones checkers bring along are years old and refuse right code
# (`tf.Variable(-1)`). The few files that import it see everything in it as Any instead.
from typing import Any

def __getattr__(name: str) -> Any: ...
