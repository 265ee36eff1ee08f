"""The commands ``lt-data`` and ``lt-train``: parse, call one public function, print."""
