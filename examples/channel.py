"""
A supervisor and a worker that is killed: the job in flight is not lost.

The worker reads jobs in place and frees each only when it is done with it. When
it is killed, the supervisor is told, starts another, and that one gets the job
again. Run it: ``python examples/channel.py``.
"""

import multiprocessing
import os
import signal
import time

import memfast

JOBS = [f"job {number}".encode() for number in range(5)]


def work(jobs: memfast.Channel, results: memfast.Channel, clumsy: bool) -> None:
    """Answer each job; a clumsy worker dies in the middle of the third."""
    with jobs.receiver() as rx, results.sender() as tx:
        while True:
            try:
                with rx.borrow() as job:
                    if clumsy and job == JOBS[2]:
                        os.kill(os.getpid(), signal.SIGKILL)
                    tx.send(b"done: " + bytes(job))
            except memfast.ClosedError:
                return


def main() -> None:
    """Send five jobs and collect five answers from two workers."""
    jobs, results = memfast.Channel.create(), memfast.Channel.create()
    with jobs.sender() as tx, results.receiver() as rx:
        worker = multiprocessing.Process(target=work, args=(jobs, results, True))
        worker.start()
        tx.send_many(JOBS)
        answers: list[bytes] = []
        while len(answers) < len(JOBS):
            try:
                answers.append(rx.recv(timeout=30))
                print(answers[-1].decode())
            except memfast.PeerDiedError as error:
                if error.pid != worker.pid:  # the next worker has not come to its end yet
                    time.sleep(0.001)
                    continue
                print(f"worker {error.pid} died: starting another")
                worker.join()
                worker = multiprocessing.Process(target=work, args=(jobs, results, False))
                worker.start()
        tx.close()
        worker.join()
    print("left for nobody:", jobs.stats().messages_sent - jobs.stats().messages_received)
    jobs.close()
    results.close()


if __name__ == "__main__":
    main()
