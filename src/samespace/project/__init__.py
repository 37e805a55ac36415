"""The short way: from images to a certified upgrade by one file, `project.yaml`, in stages that can be resumed."""
