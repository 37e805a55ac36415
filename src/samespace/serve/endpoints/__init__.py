"""What can be asked of the service, by address.

- `search`: `POST /v1/{gallery}/search`; `items`: add, look at, remove;
- `steps`: the steps of an upgrade, its backfills, how a gallery stands; `certificates`: verdicts in words;
- `web_page`: the page at `/`, whose files are in `serve/page/`.
"""
