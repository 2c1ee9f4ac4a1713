"""The neighbours: each module speaks to one library, is imported on its own, and needs the extra that its page names.

``minidl.interop.sklearn`` has estimators for scikit-learn, ``minidl.interop.torch`` bridges to PyTorch in both directions,
``minidl.interop.optuna`` what a search with Optuna needs.
Nothing else in minidl needs these libraries.
"""
