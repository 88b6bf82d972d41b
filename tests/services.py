"""Services that tests use where they are installed; in CI they must be."""

import os
import shutil
import uuid

import pytest
import sqlalchemy
from selenium import webdriver


@pytest.fixture
def postgresql():
    """The URL of a new database on a real PostgreSQL server. In CI there must be one."""
    server = os.environ.get("POSTGRESQL_URL")
    if not server and os.environ.get("CI"):
        pytest.fail("CI must set POSTGRESQL_URL")
    if not server:
        pytest.skip("no POSTGRESQL_URL of a server where databases may be made")
    name = f"test_{uuid.uuid4().hex}"
    engine = sqlalchemy.create_engine(
        server, isolation_level="AUTOCOMMIT", poolclass=sqlalchemy.pool.NullPool
    )
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"CREATE DATABASE {name}"))
    yield sqlalchemy.make_url(server).set(database=name).render_as_string(hide_password=False)
    with engine.connect() as connection:
        connection.execute(sqlalchemy.text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium. In CI there must be one."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        if os.environ.get("CI"):
            pytest.fail("CI must have chromium and chromedriver")
        pytest.skip("no chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield browser
    browser.quit()
