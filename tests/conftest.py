"""Where pytest begins: what the tests share, and in which order they run."""

LONG = ("test_tour.py", "test_bench.py", "test_distributed.py", "test_model_parameter_tuning.py")
FIXTURES = ("shared", "interrupted_runs", "random_weights", "services", "table_fixtures")


def pytest_configure(config):
    """Load the fixtures, but not in a process that only hands the tests to others."""
    if hasattr(config, "workerinput") or not config.getoption("numprocesses"):
        for name in FIXTURES:
            config.pluginmanager.import_plugin(name)


def pytest_collection_modifyitems(items):
    """Each process begins with its half of the tests, in this order, and takes the other's last.

    So what takes longest comes first, and what shares warm processes or finished runs together.
    """

    def place(item):
        early = item.path.name in LONG or hasattr(item.module, "warm")
        return 0 if early else 1 + ("plots" not in item.fixturenames)

    items.sort(key=place)
