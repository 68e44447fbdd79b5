"""
What may be deployed where MLFLOW_ALLOW_MODEL_CODE_EXECUTION=false forbids to run code that a model brings.

MLflow 3.18 honours this variable: it loads no pickles, and no pyfunc model at all. Here it counts with any version of
MLflow (`loading.may_run_code`). A file that holds no code is still converted. Nothing of MLflow's can answer for it
then, so it is never said to be verified.
"""

from __future__ import annotations

from typing import Any

from mlflow_redisai.errors import NotConvertible, first_line
from mlflow_redisai.models.loading import CODE_VARIABLE, MlflowModel


def refuse_code(model: MlflowModel, flavor: str) -> None:
    """Raise NotConvertible, with the reason, if loading the model runs code that it brings."""
    settings = model.configuration(flavor)
    pyfunc = model.configuration("python_function") if "python_function" in model.flavors else {}
    if settings.get("code") or pyfunc.get("code"):
        raise _refused(model, flavor, "it brings a folder with code")
    kept = _KEPT_AS_DATA.get(flavor)
    if kept is None:
        raise _refused(model, flavor, "no file of this flavor is known to hold data only")
    name, starts, instead = kept
    found = str(settings.get(name, "pickle"))
    if not found.startswith(starts):
        raise _refused(model, flavor, f"its {name} is {found}; {instead}")


# For each flavor that can be kept as data: the setting in MLmodel that tells, how its value begins, and what works.
_KEPT_AS_DATA = {
    "onnx": ("onnx_version", "", ""),
    "sklearn": ("serialization_format", "skops", "log it with serialization_format='skops'"),
    "pytorch": ("serialization_format", "pt2", "log it with serialization_format='pt2'"),
    "xgboost": ("model_class", "xgboost.", "log one of XGBoost's own classes"),
    "lightgbm": ("model_class", "lightgbm.basic.", "log its booster_"),
    "catboost": ("model_type", "CatBoost", "log one of CatBoost's own classes"),
}


def _refused(model: MlflowModel, flavor: str, reason: str) -> NotConvertible:
    return NotConvertible(
        f"{CODE_VARIABLE} is false, and loading the {flavor} model {model.uri} would run code that it brings: {reason}"
    )


def load_skops(model: MlflowModel) -> Any:
    """
    Return a scikit-learn model of skops' own trusted types. MLflow would trust what the model's MLmodel file names.

    Raise NotConvertible for other types.
    """
    import skops.io

    path = model.path / str(model.configuration("sklearn").get("pickled_model", "model.skops"))
    try:
        return skops.io.load(str(path), trusted=[])
    except Exception as error:
        raise _refused(model, "sklearn", f"skops doesn't trust it ({first_line(error)})") from error
