"""`samespace.Client`, for programs that use a service.

- `client`: the methods of `Gallery`, over HTTP;
- `connection`: asks the service; refusals as the errors of `Gallery`;
- `messages`: values as a request has them.
"""

from __future__ import annotations

from samespace.serve.client.client import Client

__all__ = ["Client"]
