"""The admin console and the tenant's own usage page, for any framework.

`app.py` is the page to read first. A mount turns its framework's request into a `web.Request`, asks the application's
`authorize`, and sends back the `web.Response`. Only `rendering.py` needs Jinja2.
"""
