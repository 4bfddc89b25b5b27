import pytest

from ipad_rerank.adapters.hits import require


def test_a_missing_engine_names_the_extra():
    with pytest.raises(ImportError, match=r"pip install 'ipad-rerank\[milvus\]'"):
        require("a_module_that_is_not_there", "milvus")
