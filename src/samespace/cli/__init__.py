"""The command line.

One file a command, or a group of them as `gallery/`, with the name of the command. Beside them:

- `main`: finds the command, and turns an error into one line; `exits`: exit statuses; `streams`: output that may fail;
- `output`, `sources`: options of many commands, and what they say of images that were left out;
- `deep`: what `data describe --deep` finds.
"""
