"""The operator's console: a local web page that calls the service with the operator's credentials.

    request: guard.py → inputs.py → app.py → the client
    page:    timeline.py, picture.py and display.py → templates/

It needs the extra `console`. The command `sessions console` starts it.
"""
