"""Options that were logged with a text model are honoured as pyfunc honours them, or refused by name."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from mlflow.models import infer_signature

from mlflow_redisai.errors import NotConvertible

for package in ("torch", "transformers"):
    pytest.importorskip(package, reason=f'{package} is not installed: pip install "mlflow-redisai[transformers]"')

import torch  # noqa: E402
import transformers  # noqa: E402

from redisai_engine.codec.compare import compare, tolerance_of  # noqa: E402
from support.torch_models import deploy_torch  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")]

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red", "white", "wine", "!")
TEXTS = ["red wine", "", "white white white wine !", "wine " * 25]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("words") / "vocab.txt"
    file.write_text("\n".join(WORDS))
    return transformers.BertTokenizerFast(vocab_file=str(file), model_max_length=32)


def pipeline(tokenizer: Any, **options: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=32,
        **{"num_labels": 3, **options},
    )
    model = transformers.BertForSequenceClassification(config).eval()
    return transformers.pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")


def deploy(path: Path, classifier: Any, **options: Any) -> Any:
    import mlflow.transformers

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.transformers.save_model(
            classifier, str(path / "m"), input_example=TEXTS[:2], pip_requirements=[], **options
        )
    return deploy_torch(path / "m")


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": None},
        {"top_k": 2},
        {"top_k": 1},
        {"top_k": 9},
        {"function_to_apply": "sigmoid"},
        {"function_to_apply": "none", "top_k": None},
        {"truncation": True, "max_length": 8},
        {"max_length": 8},
    ],
    ids=str,
)
def test_an_option_of_the_pipeline_is_honoured(options: dict[str, Any], tokenizer: Any, tmp_path: Path) -> None:
    deployed = deploy(tmp_path, pipeline(tokenizer), model_config=options)

    expected, answer = deployed.expected(TEXTS), deployed.predict(TEXTS)

    assert list(answer.columns) == list(expected.columns)
    assert compare(expected, answer, tolerance_of(deployed.mapping)) is not None


def test_defaults_of_params_are_honoured(tokenizer: Any, tmp_path: Path) -> None:
    deployed = deploy(tmp_path, pipeline(tokenizer), signature=infer_signature(TEXTS[:1], params={"top_k": 2}))

    assert compare(deployed.expected(TEXTS), deployed.predict(TEXTS), tolerance_of(deployed.mapping)) is not None
    assert deployed.predict(TEXTS).shape == (4, 2)


@pytest.mark.parametrize(
    "config", [{"num_labels": 1, "problem_type": "regression"}, {"problem_type": "multi_label_classification"}], ids=str
)
def test_the_kind_of_problem_decides_about_the_scores(config: dict[str, Any], tokenizer: Any, tmp_path: Path) -> None:
    deployed = deploy(tmp_path, pipeline(tokenizer, **config))

    assert compare(deployed.expected(TEXTS), deployed.predict(TEXTS), tolerance_of(deployed.mapping)) is not None


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 0},
        {"padding": "max_length", "truncation": True},
        {"return_all_scores": True},
        {"truncation": "only_first"},
    ],
    ids=str,
)
def test_another_option_is_refused_by_name(options: dict[str, Any], tokenizer: Any, tmp_path: Path) -> None:
    name, value = next(iter(options.items()))
    with pytest.raises(
        NotConvertible, match=rf"was logged with the option {name}={value!r}, which a stored model can't"
    ):
        deploy(tmp_path, pipeline(tokenizer), model_config=options)


def test_outputs_cannot_be_chosen(tokenizer: Any, tmp_path: Path) -> None:
    deploy(tmp_path, pipeline(tokenizer))
    with pytest.raises(NotConvertible, match=r"has one answer, so outputs can't be chosen \(score\)"):
        deploy_torch(tmp_path / "m", outputs="score")


class TestSentences:
    @pytest.fixture(scope="class")
    def embedder(self, tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
        library = pytest.importorskip("sentence_transformers")
        folder = tmp_path_factory.mktemp("encoder")
        pipeline(tokenizer).model.bert.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))
        return library.SentenceTransformer(str(folder), device="cpu", prompts={"search": "red "})

    def deploy(self, path: Path, embedder: Any, params: dict[str, Any]) -> Any:
        import mlflow.sentence_transformers

        signature = infer_signature(TEXTS[:1], embedder.encode(TEXTS[:1]), params=params)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mlflow.sentence_transformers.save_model(
                embedder, str(path / "m"), signature=signature, input_example=TEXTS[:2], pip_requirements=[]
            )
        return deploy_torch(path / "m")

    @pytest.mark.parametrize(
        "params",
        [
            {"normalize_embeddings": True},
            {"truncate_dim": 8, "normalize_embeddings": True},
            {"prompt_name": "search"},
            {"prompt": "white "},
            {"batch_size": 2},
        ],
        ids=str,
    )
    def test_defaults_of_params_are_honoured(self, params: dict[str, Any], embedder: Any, tmp_path: Path) -> None:
        deployed = self.deploy(tmp_path, embedder, params)

        assert compare(deployed.expected(TEXTS), deployed.predict(TEXTS), tolerance_of(deployed.mapping)) is not None

    @pytest.mark.parametrize("params", [{"precision": "int8"}, {"output_value": "token_embeddings"}], ids=str)
    def test_others_are_refused_by_name(self, params: dict[str, Any], embedder: Any, tmp_path: Path) -> None:
        name, value = next(iter(params.items()))
        with pytest.raises(NotConvertible, match=f"was logged with the option {name}={value!r}, which a stored model"):
            self.deploy(tmp_path, embedder, params)
