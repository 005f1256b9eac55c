"""Pictures and the boxes in them: data sets as others write them, looked at before a training is paid for."""
