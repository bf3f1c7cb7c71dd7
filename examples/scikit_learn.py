"""fastnn's estimators where scikit-learn's would go: in a pipeline, in a search over parameters, and out again.

    python examples/scikit_learn.py

needs the extra "sklearn".
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastnn.sklearn import MLPClassifier


def searched(X, y):
    """The best of six pipelines by cross-validation, fitted on all rows."""
    # activation="gelu", dropout and class_weight are what scikit-learn's own class does not have.
    classifier = MLPClassifier(
        (64,), activation="gelu", class_weight="balanced", learning_rate_init=0.01, random_state=0
    )
    grid = {"mlpclassifier__dropout": [0.0, 0.2], "mlpclassifier__alpha": [1e-4, 1e-2, 1.0]}
    return GridSearchCV(make_pipeline(StandardScaler(), classifier), grid, cv=3).fit(X, y)


def main():
    X, y = load_breast_cancer(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    search = searched(X_train, y_train)
    print(search.best_params_)
    print(f"accuracy on rows held back: {search.score(X_test, y_test):.3f}")

    # The fitted network without scikit-learn: for a C function, compiled code, a file, further training.
    scaler, classifier = search.best_estimator_
    net = classifier.to_network()
    probability = net.predict(scaler.transform(X_test))[:, 0]
    print(net.summary())
    print("the same probabilities:", np.allclose(probability, search.predict_proba(X_test)[:, 1]))


if __name__ == "__main__":
    main()
