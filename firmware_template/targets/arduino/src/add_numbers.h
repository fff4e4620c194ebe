/* ADD of the library, which lacks int32, with the one form of it that a model of kws has: numbers plus one number. */

#ifndef KWS_ADD_NUMBERS_H_
#define KWS_ADD_NUMBERS_H_

#include "tensorflow/lite/micro/kernels/add.h"

namespace kws {

using AddRegistration = decltype(tflite::Register_ADD());

AddRegistration RegisterAdd();

}  // namespace kws

#endif /* KWS_ADD_NUMBERS_H_ */
