"""The page "Where you are signed in" for Django.

    INSTALLED_APPS = [..., "serverless_sessions.django.devices"]

    path("account/devices/", include("serverless_sessions.django.devices.urls"))

The name of its URL is `serverless_sessions:devices`. To use the app's own base template, which has
the blocks `title` and `content`, add `{"base_template": "base.html"}` as the last argument of
`path`.
"""
