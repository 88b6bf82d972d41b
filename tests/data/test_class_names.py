"""Which class a folder's name means."""

import pytest

from bloodcells.data.class_names import Names


@pytest.mark.parametrize(
    ("classes", "name"),
    [
        (("band", "neutrophil"), "band"),
        (("promyelocyte", "immature granulocyte"), "promyelocyte"),
        (("erythroblast", "nrbc"), "NRBCs"),
    ],
)
def test_a_class_is_no_synonym_of_another(classes, name):
    names = Names(classes)
    assert names.meaning(name) == name.lower().removesuffix("s")
    assert names.meaning(classes[0]) == classes[0]
    assert names.meaning(classes[1]) == classes[1]
