"""Medical image segmentation trained with superpixel-guided soft labels."""
