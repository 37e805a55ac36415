"""The HTTP service of galleries, and its client.

- `app`: the application and its server; `workers`: several processes of it; `connections`: none may be held open;
- `service`: the galleries, models and jobs of one process, and how a request reaches its gallery;
- `endpoints/`: what can be asked, by address; `page/`: the files of the web page;
- `wire`: what requests and answers are made of; `wording`: messages in the words of HTTP;
- `requests`: around every request: id, deadline, log, errors; `limits`, `keys`: what it may do;
- `batches`, `encoders`, `pictures`: searches worked on together, models at hand, items as images;
- `backfills/`: those that the service runs; `metrics`: what Prometheus reads;
- `client/`: `samespace.Client`.
"""

from __future__ import annotations

from samespace.serve.client import Client

__all__ = ["Client"]
