"""The attributes of type 1 (present, with a value) and type 2 (present, may be empty) of CT, MR and CR images, by SOP class."""

from pydicom.uid import ComputedRadiographyImageStorage, CTImageStorage, MRImageStorage

# PS3.3: patient C.7.1.1, study C.7.2.1, series C.7.3.1, equipment C.7.5.1, image C.7.6.1, pixels C.7.6.3, SOP common C.12.1
EVERY_1 = "SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality ImageType"
EVERY_1 += " SamplesPerPixel PhotometricInterpretation Rows Columns BitsAllocated BitsStored HighBit PixelRepresentation"
EVERY_2 = "PatientName PatientID PatientBirthDate PatientSex StudyDate StudyTime ReferringPhysicianName StudyID AccessionNumber"
EVERY_2 += " SeriesNumber Laterality Manufacturer InstanceNumber"
# Frame of reference C.7.4.1 and image plane C.7.6.2; patient position is 2C in C.7.3.1, the rescale is ours for MR and CR
PLACED_1 = "FrameOfReferenceUID PixelSpacing ImageOrientationPatient ImagePositionPatient RescaleSlope RescaleIntercept"
PLACED_2 = "PositionReferenceIndicator SliceThickness PatientPosition"
TYPE_1 = {
    CTImageStorage: f"{EVERY_1} {PLACED_1}",  # A.3.3, C.8.2.1
    MRImageStorage: f"{EVERY_1} {PLACED_1} ScanningSequence SequenceVariant",  # A.4.3, C.8.3.1
    ComputedRadiographyImageStorage: f"{EVERY_1} RescaleSlope RescaleIntercept RescaleType",  # A.2.3, C.8.1.2, C.11.1
}
TYPE_2 = {
    CTImageStorage: f"{EVERY_2} {PLACED_2} KVP AcquisitionNumber",
    MRImageStorage: f"{EVERY_2} {PLACED_2} ScanOptions MRAcquisitionType RepetitionTime EchoTime EchoTrainLength",
    ComputedRadiographyImageStorage: f"{EVERY_2} BodyPartExamined ViewPosition PatientOrientation",  # C.8.1.1
}
