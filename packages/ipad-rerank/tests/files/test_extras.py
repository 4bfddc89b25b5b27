import pytest

from ipad_rerank.files.extras import require


def test_a_missing_package_names_the_extra():
    with pytest.raises(ImportError, match=r"pip install 'ipad-rerank\[milvus\]'"):
        require("a_module_that_is_not_there", "milvus")
