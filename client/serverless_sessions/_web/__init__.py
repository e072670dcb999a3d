"""The session of a web request, shared by the adapters for Django, Flask and Starlette."""
