"""An upgrade: planned, opened, rolled back or sealed.

- `plan`: what one would take and bring; `upgrade`: opened, paused, rolled back; `seal`: the end, with no way back;
- `behind`: to a model that is not compatible, filled first and then switched to;
- `permissions`: which pairs of spaces may be compared, by which certificates;
- `model_check`: canaries, which catch a model that is not what it claims to be;
- `steps`: what is possible now, and why the rest is not; `expect`: a step that is sent twice counts once.
"""
