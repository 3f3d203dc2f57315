"""What vectors of sentences are good for: linear models on top of them, the vectors held fixed."""

import numpy as np


def accuracy(vectors: np.ndarray, labels: np.ndarray, folds: int = 5) -> float:
    """The accuracy of logistic regression over ``folds`` parts, each predicted by a model of the others."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    parts = StratifiedKFold(folds, shuffle=True, random_state=0)
    return float(cross_val_score(model, vectors, labels, cv=parts).mean())


def relatedness(one: np.ndarray, other: np.ndarray, related: np.ndarray, train: int) -> float:
    """Pearson's r of relatedness, and of what ridge regression on products and distances of vectors says."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = np.concatenate([one * other, np.abs(one - other)], axis=1)
    model = make_pipeline(StandardScaler(), Ridge(alpha=10.0)).fit(features[:train], related[:train])
    return float(np.corrcoef(model.predict(features[train:]), related[train:])[0, 1])
