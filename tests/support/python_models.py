"""Models that only Python runs, trained on generated data and saved with MLflow as users save them."""

from __future__ import annotations

import importlib
import sys
import textwrap
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

# Workers run with the same packages as the tests, so nothing is installed for them.
REQUIREMENTS = ["mlflow"]


@dataclass
class Saved:
    """A saved model, and inputs that it wasn't trained on. `config` are options that it is deployed with."""

    path: Path
    held_out: list[Any]


def numbers(rows: int, seed: int = 3) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame({"x": random.normal(size=rows), "z": random.uniform(size=rows)})


def _imported(folder: Path, name: str, source: str) -> Any:
    """Write a module of the user's own, and import it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.py").write_text(textwrap.dedent(source))
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(folder))


def _save_class(folder: Path, name: str, source: str, **options: Any) -> None:
    """Save a PythonModel of that name, whose code is in a module of its own."""
    import mlflow.pyfunc

    code, module = folder.parent / f"{name.lower()}-code", f"{name.lower()}_of_a_test"
    model = getattr(_imported(code, module, source), name)()
    paths = [str(code / f"{module}.py")]
    mlflow.pyfunc.save_model(
        str(folder), python_model=model, code_paths=paths, pip_requirements=REQUIREMENTS, **options
    )


def statsmodels(folder: Path) -> Saved:
    import mlflow.statsmodels
    import statsmodels.formula.api as formulas
    from mlflow.models import infer_signature

    rows = numbers(60).assign(y=lambda frame: 2 * frame.x - frame.z)
    fitted = formulas.ols("y ~ x + np.log1p(z)", data=rows).fit()
    inputs = rows[["x", "z"]]
    mlflow.statsmodels.save_model(
        fitted, str(folder), signature=infer_signature(inputs), input_example=inputs[:3], pip_requirements=REQUIREMENTS
    )
    return Saved(folder, [numbers(7, seed=4), numbers(1, seed=5)])


def scaling(folder: Path) -> Saved:
    """A PythonModel with params, whose code is in a module of its own."""
    from mlflow.models import infer_signature

    inputs = numbers(5)
    _save_class(
        folder,
        "Scaling",
        """
        import mlflow.pyfunc

        class Scaling(mlflow.pyfunc.PythonModel):
            def predict(self, context, model_input, params=None):
                factor = (params or {}).get("factor", 1.0)
                return {"scaled": [factor * number for number in model_input["x"]], "text": f"by {factor}"}
        """,
        signature=infer_signature(inputs, params={"factor": 1.5}),
        input_example=inputs[:2],
    )
    return Saved(folder, [numbers(4, seed=8)])


def from_code(folder: Path) -> Saved:
    """A model from code: the file that makes it is logged, and nothing is pickled."""
    import mlflow.pyfunc

    source = folder.parent / "model_of_a_test.py"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(
        textwrap.dedent(
            """
            import mlflow
            import pandas as pd

            class Lengths(mlflow.pyfunc.PythonModel):
                def predict(self, context, model_input, params=None):
                    texts = model_input["text"]
                    return pd.DataFrame({"length": texts.str.len().astype("Int64"), "first": texts.str[:1]})

            mlflow.models.set_model(Lengths())
            """
        )
    )
    example = pd.DataFrame({"text": ["one", "three"]})
    mlflow.pyfunc.save_model(
        str(folder), python_model=str(source), input_example=example, pip_requirements=REQUIREMENTS
    )
    return Saved(folder, [pd.DataFrame({"text": ["", "Zürich", "a b"]}, index=[4, 4, 5])])


def days(folder: Path) -> Saved:
    """A model of a column of dates and times, which no tensor holds."""
    from mlflow.models import infer_signature

    frame = pd.DataFrame({"when": pd.to_datetime(["2026-11-27T14:30:00", "2024-02-29T00:00:01"]), "factor": [1.5, 2.0]})
    _save_class(
        folder,
        "Days",
        """
        import mlflow.pyfunc
        import pandas as pd

        class Days(mlflow.pyfunc.PythonModel):
            def predict(self, context, model_input, params=None):
                when = model_input["when"]
                return pd.DataFrame({"day": when.dt.day_name(), "hour": when.dt.hour * model_input["factor"]})
        """,
        signature=infer_signature(frame),
        input_example=frame,
    )
    return Saved(folder, [frame.assign(when=frame["when"].map(pd.Timestamp.isoformat))])


def chain(folder: Path) -> Saved:
    """A model that takes a chat's messages, like a chain, and answers like one."""
    _save_class(
        folder,
        "Chain",
        """
        import mlflow.pyfunc

        class Chain(mlflow.pyfunc.PythonModel):
            def predict(self, context, model_input, params=None):
                said = [message["content"] for message in model_input["messages"]]
                answer = {"role": "assistant", "content": " / ".join(said)}
                return {"choices": [{"index": 0, "message": answer}], "usage": {"words": len(said)}, "cost": None}

            def predict_stream(self, context, model_input, params=None):
                for message in model_input["messages"]:
                    yield {"delta": message["content"]}
        """,
    )
    return Saved(folder, [{"messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": "there"}]}])


def own_step(folder: Path) -> Saved:
    """A scikit-learn pipeline with a step of the user's own, which no converter knows."""
    import mlflow.sklearn
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    code = folder.parent / "step-code"
    module = _imported(
        code,
        "step_of_a_test",
        """
        from sklearn.base import BaseEstimator, TransformerMixin

        class Ratio(BaseEstimator, TransformerMixin):
            def fit(self, inputs, target=None):
                return self

            def transform(self, inputs):
                return inputs.assign(ratio=inputs["x"] / (1 + inputs["z"].abs()))
        """,
    )
    inputs = numbers(80)
    labels = np.where(inputs.x > inputs.z, "above", "below")
    pipeline = make_pipeline(module.Ratio(), LogisticRegression()).fit(inputs, labels)
    mlflow.sklearn.save_model(
        pipeline,
        str(folder),
        code_paths=[str(code / "step_of_a_test.py")],
        signature=infer_signature(inputs, labels),
        input_example=inputs[:3],
        serialization_format="cloudpickle",
        pip_requirements=REQUIREMENTS,
    )
    return Saved(folder, [numbers(20, seed=12)])


def spacy(folder: Path) -> Saved:
    """A blank pipeline that is trained here to tell two kinds of text apart."""
    import mlflow.spacy
    import spacy as library
    from spacy.training import Example

    pipeline = library.blank("en")
    pipeline.add_pipe("textcat").add_label("GOOD")
    pipeline.get_pipe("textcat").add_label("BAD")
    texts = {"a fine day": "GOOD", "fine and good": "GOOD", "an awful day": "BAD", "awful and bad": "BAD"}
    examples = [
        Example.from_dict(pipeline.make_doc(text), {"cats": {each: float(each == label) for each in ("GOOD", "BAD")}})
        for text, label in texts.items()
    ]
    optimizer = pipeline.initialize(lambda: examples)
    for _ in range(10):
        pipeline.update(examples, sgd=optimizer)
    mlflow.spacy.save_model(
        pipeline, str(folder), input_example=pd.DataFrame({"text": list(texts)[:2]}), pip_requirements=REQUIREMENTS
    )
    return Saved(folder, [pd.DataFrame({"text": ["a good and fine day", "bad", ""]})])


def _season(length: int) -> pd.Series:
    days = pd.date_range("2025-01-01", periods=length, freq="D")
    random = np.random.default_rng(5)
    values = 10 + np.sin(np.arange(length) * 2 * np.pi / 7) + random.normal(scale=0.1, size=length)
    return pd.Series(values, index=days)


def pmdarima(folder: Path) -> Saved:
    import mlflow.pmdarima
    import pmdarima as library

    fitted = library.ARIMA(order=(1, 0, 1)).fit(_season(120))
    example = pd.DataFrame({"n_periods": [3]})
    mlflow.pmdarima.save_model(fitted, str(folder), input_example=example, pip_requirements=REQUIREMENTS)
    return Saved(
        folder,
        [pd.DataFrame([{"n_periods": 5, "return_conf_int": True, "alpha": 0.1}]), pd.DataFrame({"n_periods": [2]})],
    )


def prophet(folder: Path) -> Saved:
    import mlflow.prophet
    import prophet as library

    rows = _season(120).rename_axis("ds").rename("y").reset_index()
    fitted = library.Prophet(uncertainty_samples=0, yearly_seasonality=False, daily_seasonality=False).fit(rows)
    future = fitted.make_future_dataframe(5, include_history=False)
    mlflow.prophet.save_model(fitted, str(folder), input_example=future[:2], pip_requirements=REQUIREMENTS)
    return Saved(folder, [future])


MAKERS = {
    maker.__name__: maker
    for maker in (statsmodels, scaling, from_code, days, chain, own_step, spacy, pmdarima, prophet)
}


def save(name: str, folder: Path) -> Saved:
    """Save the model of that name in a folder. Its library's warnings aren't ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MAKERS[name](folder / name / "model")
