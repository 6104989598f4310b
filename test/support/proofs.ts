import { createSystemRandom, systemClock } from '../../src/clock.ts'
import { createProofs, type Proofs } from '../../src/egress/proofs.ts'

export const someProofs = (): Proofs => createProofs({ clock: systemClock, random: createSystemRandom() })
