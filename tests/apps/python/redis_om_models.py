"""redis-om: models in hashes, with a time to live. (Its queries need a search module.)"""

import os

from common import URL

os.environ["REDIS_OM_URL"] = URL
from redis_om import HashModel, NotFoundError, get_redis_connection


class Customer(HashModel, index=True):
    name: str
    age: int

    class Meta:
        database = get_redis_connection(url=URL, decode_responses=True)


customer = Customer(name="Ada", age=36)
customer.save()
assert Customer.get(customer.pk) == customer
customer.update(age=37)
assert Customer.get(customer.pk).age == 37
customer.expire(100)
assert list(Customer.all_pks()) == [customer.pk]
Customer.delete(customer.pk)
try:
    Customer.get(customer.pk)
except NotFoundError:
    pass
else:
    raise AssertionError("a deleted model is found")
