import { createHmac } from 'node:crypto'

/** What Deputy signs of a webhook: the time, a full stop, the body. Who receives it compares the time as well, so that nothing can be sent again later. */
export const signatureOf = (key: string, seconds: number, body: string): string =>
  `t=${seconds},v1=${createHmac('sha256', key).update(`${seconds}.${body}`).digest('hex')}`
