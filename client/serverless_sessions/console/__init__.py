"""The operator's console: a web page on this machine that calls the service as the operator.

    request: guard.py → app.py → the client
    page:    lives.py, picture.py and plain.py → templates/

Needs the extra `console`. `sessions console` starts it.
"""
