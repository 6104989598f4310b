import { z } from 'zod'

export const secretShape = { tenant: z.string(), backend: z.string(), secret: z.string() }
export const rotationSchema = z.looseObject({
  ...secretShape,
  id: z.string(),
  policy: z.string(),
  reason: z.string(),
  step: z.string(),
  state: z.string(),
  problem: z.string().nullable(),
  attempts: z.number(),
  nextAt: z.number(),
  graceUntil: z.number().nullable(),
  startedAt: z.number(),
  endedAt: z.number().nullable(),
})

export interface Output {
  json?: boolean
}

/** A secret as people read it. */
export const nameOf = ({ tenant, backend, secret }: { tenant: string; backend: string; secret: string }): string =>
  `${tenant}/${secret}${backend === 'embedded' ? '' : ` in ${backend}`}`
