/* The firmware as a function, for the program of a board. */

#ifndef KWS_FIRMWARE_H_
#define KWS_FIRMWARE_H_

#ifdef __cplusplus
extern "C" {
#endif

/* Listens until the microphone or the model fails, which it reports. Returns 0 or 1. The arguments go to platform_open,
 * which may ignore them: 0 and NULL. */
int kws_main(int argc, char **argv);

#ifdef __cplusplus
}
#endif

#endif /* KWS_FIRMWARE_H_ */
