"Who can reach the workers: from outside nobody, elsewhere whoever holds a certificate"

import http.client
import shutil
import subprocess
import sys

import dask
import psutil
import pytest

from ocf_study import runtime


def listening():
    "(address, port) of every socket on which this process or a child of it listens"
    here = psutil.Process()
    return {
        tuple(c.laddr)
        for p in [here, *here.children(recursive=True)]
        for c in p.net_connections('inet')
        if c.status == psutil.CONN_LISTEN
    }


def pages(client, opened):
    "Those ports of them on which Dask does not speak its own protocol: there it speaks HTTP"
    about = client.scheduler_info(n_workers=-1)
    own = [about['address'], *about['workers'], *(w['nanny'] for w in about['workers'].values())]
    ports = {int(address.rpartition(':')[2]) for address in own if str(address).startswith('tcp')}
    return {port for _, port in opened} - ports


def page(port, path):
    "Status of a page, None where nobody speaks HTTP"
    connection = http.client.HTTPConnection('127.0.0.1', port, timeout=5)
    try:
        connection.request('GET', path)
        with connection.getresponse() as response:
            return response.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@pytest.mark.parametrize('workers', [0, 2])
def test_local_work_listens_on_the_loopback_address_and_serves_no_page(workers):
    before = listening()
    with runtime.client(workers=workers) as client:
        assert client.submit(sum, [1, 2]).result() == 3
        opened = listening() - before
        assert opened and {address for address, _ in opened} == {'127.0.0.1'}
        for port in pages(client, opened):
            for path in (
                '/',
                '/status',
                '/info/main/workers.html',
                '/json/counts.json',
                '/metrics',
            ):
                assert page(port, path) in (None, 404), path
    assert listening() <= before


def test_a_dashboard_is_shown_where_it_is_asked_for_and_to_this_machine_alone():
    before = listening()
    with runtime.client(dashboard=True) as client:
        opened = listening() - before
        assert {address for address, _ in opened} == {'127.0.0.1'}
        assert any(page(port, '/status') == 200 for port in pages(client, opened))


@pytest.mark.skipif(not shutil.which('openssl'), reason='without openssl')
def test_a_scheduler_elsewhere_is_reached_through_tls(tmp_path):
    cert, key = str(tmp_path / 'cert.pem'), str(tmp_path / 'key.pem')
    subprocess.run(
        ['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2']
        + ['-subj', '/CN=localhost', '-keyout', key, '-out', cert],
        check=True,
        capture_output=True,
    )
    tls = {'distributed.comm.require-encryption': True, 'distributed.comm.tls.ca-file': cert}
    for who in ('scheduler', 'worker', 'client'):
        tls |= {f'distributed.comm.tls.{who}.{k}': v for k, v in (('cert', cert), ('key', key))}
    from distributed import LocalCluster, Security

    with dask.config.set(tls):
        options = dict(protocol='tls', security=Security(), dashboard_address='127.0.0.1:0')
        with LocalCluster(
            1, threads_per_worker=1, processes=False, host='127.0.0.1', **options
        ) as c:
            assert c.scheduler_address.startswith('tls://')
            with runtime.client(c.scheduler_address) as client:
                assert client.submit(sum, [1, 2]).result() == 3
            alone = (
                f'from ocf_study import runtime\nwith runtime.client({c.scheduler_address!r}): pass'
            )
            without = subprocess.run([sys.executable, '-c', alone], capture_output=True, text=True)
            assert without.returncode and 'TLS' in without.stderr
