"""Moves of tags, in their order: which of them ask for a revision."""

from __future__ import annotations

import structlog

from registry.deploy.apps import feeds
from registry.deploy.artifact import read_manifest
from registry.deploy.journal import Journal
from registry.deploy.refusal import NotRunnable
from registry.deploy.spin import recognise
from storage.errors import StorageError
from storage.store import Move, Store

BATCH = 100  # moves
ATTEMPTS = 5  # at a move that fails in a way nobody foresaw

log = structlog.get_logger()


class Intake:
    def __init__(self, store: Store, journal: Journal, domain: str) -> None:
        self._store = store
        self._journal = journal
        self._domain = domain
        self._cursor: int | None = None
        self._failures = 0

    async def take(self) -> None:
        """Look at every move that is not yet admitted or passed over."""
        if self._cursor is None:
            self._cursor = await self._journal.cursor()
        while await self._store.newest_move() > self._cursor:
            moves = await self._store.moves(after=self._cursor, limit=BATCH)
            if not moves:
                return
            skipped: Move | None = None
            for move in moves:
                if not feeds(move.tag):
                    skipped = move  # signatures and the like say nothing about an app
                elif not await self._take(move):
                    skipped = move
                else:
                    skipped = None
                self._cursor = move.generation
            if skipped is not None:
                await self._journal.skip(skipped)  # one write for all of them at the end

    async def _take(self, move: Move) -> bool:
        """False when there was nothing to record."""
        if move.digest is None:
            return await self._tell(move, f"tag {move.tag} was deleted; what runs goes on")
        try:
            spin = await self._is_spin(move)
        except StorageError as error:
            detail = f"tag {move.tag} was moved to {move.digest}, which cannot be read: {error}"
            return await self._tell(move, detail)
        except Exception:
            self._failures += 1
            if self._failures < ATTEMPTS:
                raise
            # One manifest must not hold up for ever what comes after it.
            log.exception("a move of a tag is passed over", repository=str(move.repository))
            self._failures = 0
            return await self._tell(
                move, f"tag {move.tag} was moved to {move.digest}; an error kept it from being read"
            )
        self._failures = 0
        if not spin:
            detail = f"tag {move.tag} was moved to {move.digest}, which is no Spin application"
            return await self._tell(move, detail)
        if move.mover is not None and not move.mover.may_deploy:
            log.info(
                "a Spin application was pushed by somebody who may not deploy it",
                repository=str(move.repository),
                tag=str(move.tag),
                digest=str(move.digest),
                by=move.mover.principal,
            )
            return await self._tell(
                move,
                f"tag {move.tag} was moved to {move.digest} by {move.mover.principal}, who may not"
                " deploy here; what runs goes on. Somebody who may can push the same again",
            )
        revision = await self._journal.admit(move, self._domain)
        log.info(
            "a Spin application was pushed",
            repository=str(move.repository),
            tag=str(move.tag),
            digest=str(move.digest),
            revision=revision.number if revision is not None else None,
        )
        return True

    async def _tell(self, move: Move, detail: str) -> bool:
        """Pass over the move and tell its app; False when there is none."""
        if await self._journal.app(move.repository) is None:
            return False
        await self._journal.skip(move, detail)
        return True

    async def _is_spin(self, move: Move) -> bool:
        assert move.digest is not None
        manifest = await read_manifest(self._store.repository(move.repository), move.digest)
        try:
            return recognise(manifest) is not None
        except NotRunnable:
            return True  # its revision fails, and says why
