"""Studies with one mistake each, and what the error must name."""

from plan_builder import NET

OVERRIDES = {
    # override: key, suggestion, what else the message must say
    "cnn.recipe.epoch=3": ("cnn.recipe.epoch", "epochs", "objective"),
    "cnn.epocs=3": ("cnn.epocs", "recipe.epochs", "replicates"),
    "cnn.lr=0.1": ("cnn.lr", "recipe.learning_rate", ""),
    "cnn.recipe.lr=0.1": ("cnn.recipe.lr", "learning_rate", ""),
    "cnn.filters=[3]": ("cnn.filters", "network.channels", ""),
    "epochs=3": ("epochs", "mlp-64-64.recipe.epochs", "no experiment or field"),
    "hidden=64": ("hidden", "mlp-64-64.network.hidden", ""),
    "cnn.replicate=3": ("cnn.replicate", "replicates", ""),
    "cnn.normalize.sdt=2": ("cnn.normalize.sdt", "std", "mean"),
    "robustness.stength=[0]": ("robustness.stength", "strengths", ""),
    "findings.replicates=3": ("findings.replicates", "", "title"),
    "data.datset='x'": ("data.datset", "dataset", "validation"),
    "noise-trained-cnn.recipe.corruption.nam='x'": ("noise-trained-cnn.recipe.corruption.nam", "name", ""),
    "cnn.references=[{source='x',dataset='m',values={a=1},nots=[]}]": ("cnn.references.0.nots", "notes", ""),
    "cnn.recipe.epochs=0": ("cnn.recipe.epochs", "", "0"),
    "cnn.recipe.epochs='three'": ("cnn.recipe.epochs", "", "'three'"),
    "cnn.recipe.epochs=1.5": ("cnn.recipe.epochs", "", "1.5"),
    "cnn.recipe.learning_rate=-1": ("cnn.recipe.learning_rate", "", "-1"),
    "cnn.recipe.learning_rate=nan": ("cnn.recipe.learning_rate", "", "nan"),
    "cnn.recipe.l2=inf": ("cnn.recipe.l2", "", "inf"),
    "cnn.recipe.momentum=1": ("cnn.recipe.momentum", "", "1"),
    "cnn.recipe.optimizer='sdg'": ("cnn.recipe.optimizer", "sgd", "'muon'"),
    "cnn.recipe.optimizer='moun'": ("cnn.recipe.optimizer", "muon", "'adam'"),
    "cnn.recipe.schedule='liner'": ("cnn.recipe.schedule", "linear", "'cosine'"),
    "cnn.recipe.warmup=1": ("cnn.recipe.warmup", "", "1"),
    "cnn.recipe.warmpu=0.1": ("cnn.recipe.warmpu", "warmup", ""),
    "cnn.recipe.augmentation.shft=2": ("cnn.recipe.augmentation.shft", "shift", "elastic"),
    "cnn.recipe.augmentation.shift=1.5": ("cnn.recipe.augmentation.shift", "", "1.5"),
    "cnn.recipe.augmentation.shift=-1": ("cnn.recipe.augmentation.shift", "", "-1"),
    "cnn.recipe.augmentation.rotation=360": ("cnn.recipe.augmentation.rotation", "", "360"),
    "cnn.recipe.augmentation.scale=1": ("cnn.recipe.augmentation.scale", "", "1"),
    "cnn.recipe.augmentation.elastic=nan": ("cnn.recipe.augmentation.elastic", "", "nan"),
    "cnn.recipe.early_stopping.patience=0": ("cnn.recipe.early_stopping.patience", "", "0"),
    "cnn.recipe.early_stopping.patence=3": ("cnn.recipe.early_stopping.patence", "patience", "min_delta"),
    "cnn.recipe.early_stopping.metric='loss'": ("cnn.recipe.early_stopping.metric", "", "'validation_loss'"),
    "cnn.recipe.label_smoothing=1.5": ("cnn.recipe.label_smoothing", "", "1.5"),
    "cnn.recipe.class_weights='balance'": ("cnn.recipe.class_weights", "balanced", "'balanced'"),
    "cnn.recipe.class_weights=[1, 0]": ("cnn.recipe.class_weights.1", "", "0"),
    "cnn.recipe.augmentation=3": ("cnn.recipe.augmentation", "", "table"),
    "cnn.recipe.augmentaton={shift=2}": ("cnn.recipe.augmentaton", "augmentation", ""),
    "cnn.recipe.eval_strength=0.4": ("cnn.recipe", "", "eval_strength"),
    "noise-trained-cnn.recipe.eval_strength=-1": ("noise-trained-cnn.recipe.eval_strength", "", "-1"),
    "cnn.normalize='datset'": ("cnn.normalize", "dataset", "'none'"),
    "precision='fp16'": ("precision", "bf16", "'fp32'"),
    "cnn.normalize.std=0": ("cnn.normalize.std", "", "0"),
    "cnn.normalize=3": ("cnn.normalize", "", "'none'"),
    "cnn.recipe='sdg'": ("cnn.recipe", "sgd", "'sdg'"),
    "cnn.recipe.base='sdg'": ("cnn.recipe", "sgd", "'sdg'"),
    "cnn.recipe.base='my.toml'": ("cnn.recipe", "", "my.toml"),
    "cnn.network=3": ("cnn.network", "", "table"),
    "cnn.network={}": ("cnn.network.name", "", ""),
    "cnn.explanations='relu'": ("cnn.explanations", "", "list"),
    "robustness.kind='robustnes'": ("robustness", "robustness", "generation"),
    "robustness.strengths=[0.5,0.1]": ("robustness.strengths", "", "[0.5, 0.1]"),
    "robustness.strengths=[]": ("robustness.strengths", "", "[]"),
    "robustness.strengths=[-1]": ("robustness.strengths.0", "", "-1"),
    "robustness.strengths=[nan]": ("robustness.strengths.0", "", "nan"),
    "robustness.images=0": ("robustness.images", "", "0"),
    "robustness.pipelines=[]": ("robustness.pipelines", "", "[]"),
    "robustness.pipelines=['cnn', '+cnn']": ("robustness.pipelines.1", "", "'+cnn'"),
    "robustness.baseline='mlp'": ("robustness", "", "'mlp'"),
    "generation.samples=10": ("generation.samples", "", "10"),
    "noise-trained-cnn.recipe.corruption.strength=[0.9,0.1]": (
        "noise-trained-cnn.recipe.corruption.strength", "", "[0.9, 0.1]",
    ),
    "denoiser.recipe.corruption.strenght=1": ("denoiser.recipe.corruption.strenght", "strength", ""),
    "l2-sweep.grid=3": ("l2-sweep.grid", "", "table"),
    "l2-sweep.grid.recipe.l2=3": ("l2-sweep.grid.recipe.l2", "", "list"),
    "l2-sweep.grid={'recipe.l2'=[]}": ("l2-sweep.grid.recipe.l2", "", "[]"),
    "l2-sweep.grid={'recipe.l2'=[0.1,0.1]}": ("l2-sweep.grid", "", "'recipe.l2'"),
    "l2-sweep.grid={'network.name'=[1],'recipe.name'=[1]}": ("l2-sweep.grid", "", "'name'"),
    "l2-sweep.replicates=10000\0l2-sweep.grid={'recipe.l2'=[1,2,3,4,5,6,7,8,9,10,11]}": (
        "l2-sweep", "", "110,000",
    ),
    "seed=-1": ("seed", "", "-1"),
    "name='A b'": ("name", "", "'A b'"),
    "data=3": ("data", "", "table"),
    "experiments=3": ("experiments", "", "table"),
    "cn.replicates=1": ("cn.replicates", "cnn", "--set cn.replicates=1"),
    "seeed=3": ("seeed", "seed", "--set seeed=3"),
    "cnn=3": ("cnn", "", "cnn.title"),
    "cnn.recipe.epochs.x=3": ("cnn.recipe.epochs.x", "", "'epochs'"),
    "cnn.replicates": ("cnn.replicates", "", "cnn.recipe.epochs=3"),
    "=3": ("=3", "", "cnn.recipe.epochs=3"),
}  # fmt: skip
"""Override, or several separated by a zero byte: the key, the suggestion, what else the message names."""

FILES = [
    ("", "name"),
    ("name = 'x'", "experiments"),
    ("name = 'x'\nexperiments = []", "experiments"),
    ("name = 'x'\n[experiments]", "experiments"),
    ("name = 'x'\n[experiments.a]", "a.network"),
    ("name = 'x'\n[experiments.'A b']\nkind = 'data'", "A b"),
    ("name = 'x'\n[experiments.a]\nkind = 1979-05-27", "a"),
    ("name = 'x'\nseeed = 1\n[experiments.a]\nkind = 'data'", "seeed"),
    ("profiles = 3", "profiles"),
    ("[profiles]\nquick = 3", "profiles"),
    ("name = 'x'\n[experiments.a]\nkind = 'data'\n[profiles.q]\n'b.c' = 1", "b.c"),
    ("name = ", ""),
    ("[a]\n[a]", ""),
]
"""Text of a study file, and the key that is wrong."""

ROBUSTNESS = {"kind": "robustness", "pipelines": ["net"], "baseline": "net"}
GENERATION = {"kind": "generation", "decoder": "auto", "classifier": "net"}
AUTO = {"network": "autoencoder", "recipe": "denoise", "replicates": 2}
SWEEP = {**NET, "grid": {"recipe.l2": [0.0, 0.1]}}


def grid(key, *values):
    return {"net": {**NET, "grid": {key: list(values)}}}


def robustness(*pipelines, **more):
    return {"r": {**ROBUSTNESS, "pipelines": ["net", *pipelines], **more}}


def generation(**more):
    return {"g": {**GENERATION, **more}}


def corrupted(name, strength):
    return {"o": {**NET, "recipe": {"corruption": {"name": name, "strength": strength}}}}


PLANS = [
    ({"net": {**NET, "network": "mpl"}}, "'net'", "mpl", "mlp"),
    ({"net": {**NET, "network": {"name": "mlp", "hiden": [3]}}}, "'net'", "hiden", "hidden"),
    (grid("recipe.learning_rat", 1), "'net'", "recipe.learning_rat", "learning_rate"),
    (grid("recip.learning_rate", 1), "'net'", "recip.learning_rate", "recipe"),
    (grid("recipe.corruption.strength", 1), "'corruption'", "recipe.corruption.strength", ""),
    (grid("recipe.learning_rate", 0.1, -1), "(-1,)", "grid", ""),
    (grid("network.hiden", [3]), "'net'", "hiden", "hidden"),
    (grid("replicates", 3), "'net'", "replicates", ""),
    (robustness("median"), "'median'", "median", ""),
    (robustness("median+nett"), "'nett'", "nett", "net"),
    ({"net": SWEEP, **robustness()}, "'r'", "net", ""),
    (robustness(images=3), "'r'", "r.images", ""),
    (generation(), "'g'", "auto", ""),
    ({"net": SWEEP, "auto": AUTO, **generation()}, "'g'", "net", ""),
    ({**robustness(), **generation(decoder="r")}, "'g'", "r", ""),
]
"""Experiments beside `net`, that only the planner can reject."""

NAMES = [
    (robustness("medain+net"), "medain", "median"),
    (robustness(corruption="salt"), "salt", "salt_and_pepper"),
    (robustness(corruption="fgms"), "fgms", "fgsm"),
    (generation(samplers=["gausian"]), "gausian", "gaussian"),
    ({"median": NET}, "median", ""),
    ({"o": {**NET, "recipe": {"objective": "clasify"}}}, "clasify", "classify"),
    (corrupted("shott", 0.1), "shott", "shot"),
    (generation(decoder="net", classifier="net"), "net", ""),
    (generation(classifier="auto"), "auto", ""),
    (robustness("auto"), "auto", ""),
    (robustness("net+net"), "net", ""),
]
"""Experiments beside `net` and `auto`, with names that only modules with torch know."""

STRENGTHS = [
    robustness(strengths=[0, 2]),
    robustness(corruption="pgd", strengths=[0, 2]),
    corrupted("shot", [0, 9]),
]
"""Strengths outside the range of a corruption or an attack."""
