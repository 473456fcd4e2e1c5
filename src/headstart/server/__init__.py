"""The prediction service. A request passes `protection`, `protocols`, `requests` and `queue`; `models` answer it."""
