"""What users, their dashboards and their volumes have from the previous version, compared with this version.

`collect` asks the code of this version for its lists: fields, names, metrics, file formats. `previous.json` holds the same lists of the
previous version. `tests/unit/test_compatibility.py` compares the two: an addition is allowed, a removal or a change is not.
"""
